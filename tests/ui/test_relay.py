"""What a run yields reaches whoever follows; a lost follower stops the taking, not the run."""

import asyncio

import pytest

from causvid.ui.relay import Relay


class Source:
    """Yields 0, 1, … and notes how far it was asked."""

    def __init__(self, count: int, breaks: bool = False):
        self.count, self.breaks = count, breaks
        self.asked, self.closed = 0, False

    async def items(self):
        try:
            for number in range(self.count):
                self.asked = number + 1
                await asyncio.sleep(0)
                yield number
            if self.breaks:
                raise ValueError("it broke")
        finally:
            self.closed = True


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def take(relay: Relay, count: int, start: int = 0) -> list[int]:
    """So many items, and then the connection is lost."""
    items = []
    with relay.followed():
        async for item in relay.items(start):
            items.append(item)
            if len(items) == count:
                relay.release()
    return items


def test_a_follower_gets_every_item_in_order_and_the_source_is_never_ahead():
    async def scenario():
        source = Source(9)
        relay = Relay(source.items())
        with relay.followed():
            async for item in relay.items():
                assert source.asked == item + 1
                await settle()
                assert source.asked == item + 1, "the next is made when this one is followed"
        return source, relay

    source, relay = asyncio.run(scenario())
    assert relay.over and source.closed and source.asked == 9


@pytest.mark.parametrize("lost_after", [1, 2, 5, 8])
def test_a_lost_follower_comes_back_and_misses_nothing(lost_after):
    async def scenario():
        source = Source(9)
        relay = Relay(source.items(), keep=4)
        first = await take(relay, lost_after)
        await settle()
        assert not source.closed and source.asked <= lost_after + 1, "nobody asks for more"
        start, item = relay.find(lambda it: it >= lost_after - 1)
        assert item == start == lost_after - 1, "what was seen last is still there"
        return first, await take(relay, 99, start)

    first, again = asyncio.run(scenario())
    assert first == list(range(lost_after)) and again == list(range(lost_after - 1, 9))


def test_only_the_newest_items_are_kept():
    async def scenario():
        relay = Relay(Source(20).items(), keep=3)
        await take(relay, 10)
        await settle()
        return await take(relay, 99)

    again = asyncio.run(scenario())
    assert again[-1] == 19 and 7 <= again[0] <= 8 and again == list(range(again[0], 20))


def test_a_second_follower_takes_over_from_the_first():
    async def scenario():
        source = Source(9)
        relay, seen = Relay(source.items(), keep=9), []

        async def first():
            with relay.followed():
                async for item in relay.items():
                    seen.append(item)
                    await asyncio.sleep(0.01)

        watching = asyncio.create_task(first())
        await asyncio.sleep(0.025)
        rest = await take(relay, 99)
        await watching
        assert not source.closed or relay.over
        return seen, rest

    seen, rest = asyncio.run(scenario())
    assert rest == list(range(9)) and len(seen) < 9


def test_leaving_in_any_other_way_closes_the_source():
    async def scenario(leave):
        source = Source(9)
        relay = Relay(source.items())
        with pytest.raises(type(leave)), relay.followed():
            async for _ in relay.items():
                raise leave
        await settle()
        return source, relay

    for leave in (RuntimeError("no"), GeneratorExit(), asyncio.CancelledError()):
        source, relay = asyncio.run(scenario(leave))
        assert source.closed and relay.over and source.asked <= 2


def test_the_rest_can_be_taken_though_nobody_follows():
    async def scenario():
        source = Source(9)
        relay = Relay(source.items(), keep=4)
        await take(relay, 2)
        relay.drain()
        await settle()
        return source, relay, await take(relay, 99)

    source, relay, late = asyncio.run(scenario())
    assert source.asked == 9 and relay.over and late == []


@pytest.mark.parametrize("lost", [False, True])
def test_what_goes_wrong_reaches_the_follower_also_a_later_one(lost):
    async def scenario():
        relay = Relay(Source(3, breaks=True).items())
        if lost:
            await take(relay, 1)
            relay.drain()
            await settle()
        await take(relay, 99)

    with pytest.raises(ValueError, match="it broke"):
        asyncio.run(scenario())
