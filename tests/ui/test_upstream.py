"""Gradio's queue as this app has it, and the faults of Gradio's own that are the reason."""

import asyncio
import inspect
from types import SimpleNamespace

import gradio as gr
import gradio.queueing
import pytest
from gradio.server_messages import EstimationMessage
from gradio.utils import LRUCache

from causvid.ui.presence import Presence, heartbeat_of
from causvid.ui.upstream import MOST_UNHEARD, LastingQueue


@pytest.fixture
def presence():
    return Presence()


@pytest.fixture
def queue(presence):
    with gr.Blocks() as page:
        pass
    return LastingQueue(page._queue, presence)


def open_stream(presence: Presence, name: str) -> None:
    presence._change(name, +1)


def close_stream(presence: Presence, name: str) -> None:
    presence._change(name, -1)


def event(session: str) -> SimpleNamespace:
    return SimpleNamespace(
        _id=f"event of {session}",
        session_hash=session,
        alive=True,
        fn=None,
        concurrency_id="x",
        streaming=False,
    )


def wait_for_its_turn(queue: gradio.queueing.Queue, session: str) -> None:
    queue.event_queue_per_concurrency_id["x"] = waiting = gradio.queueing.EventQueue("x", None)
    waiting.queue.append(event(session))


def test_gradio_still_forgets_who_listens_and_ends_at_a_forgotten_session():
    """Where this fails, `upstream.py` may be less, or go."""
    assert gr.__version__ == "6.31.0"
    with gr.Blocks() as page:
        pass
    stock = page._queue
    kept = stock.pending_messages_per_session
    assert type(kept) is LRUCache and kept.max_size == 2000
    assert type(stock.pending_event_ids_session) is dict
    wait_for_its_turn(stock, "forgotten")
    with pytest.raises(KeyError, match="forgotten"):
        stock.broadcast_estimations("x")
    loop = inspect.getsource(gradio.queueing.Queue.start_processing)
    assert "self.broadcast_estimations(concurrency_id)" in loop
    assert "finally:\n            self.stopped = True\n" in loop


def test_what_is_sent_to_a_session_that_is_gone_is_nobodys_error(queue):
    wait_for_its_turn(queue, "forgotten")
    queue.broadcast_estimations("x")
    queue.send_message(event("forgotten"), EstimationMessage(queue_size=1))
    assert "forgotten" not in queue.pending_messages_per_session
    assert queue.pending_event_ids_session["forgotten"] == set()
    del queue.pending_messages_per_session["forgotten"]


@pytest.mark.parametrize("listens_first", [True, False])
def test_an_open_stream_is_never_evicted_and_what_nobody_hears_is(queue, presence, listens_first):
    kept = queue.pending_messages_per_session
    if listens_first:
        open_stream(presence, "viewer")
    kept["viewer"] = asyncio.Queue()
    if not listens_first:
        open_stream(presence, "viewer")
    for number in range(2 * MOST_UNHEARD):
        kept[f"stranger {number}"] = asyncio.Queue()
        queue.pending_event_ids_session[f"stranger {number}"] = {str(number)}
    assert "viewer" in kept
    assert len(kept) <= MOST_UNHEARD + 1
    assert len(queue.pending_event_ids_session) <= MOST_UNHEARD + 1
    kept.sweep(patience=0)
    assert list(kept) == ["viewer"] and not queue.pending_event_ids_session
    close_stream(presence, "viewer")
    assert not kept


def test_events_that_nobody_fetches_are_dropped_with_their_session(queue, presence):
    kept = queue.pending_messages_per_session
    kept["a"], kept["b"] = asyncio.Queue(), asyncio.Queue()
    running, waiting = event("a"), event("b")
    wait_for_its_turn(queue, "b")
    queue.active_jobs = [None, [running], [waiting]]
    queue.pending_event_ids_session.update(a={running._id}, b={"x"})
    open_stream(presence, "b")
    kept.sweep(patience=0)
    assert list(kept) == ["b"] and not running.alive and waiting.alive
    close_stream(presence, "b")
    assert list(kept) == ["b"], "an event that was put in meanwhile is waited for"
    kept.sweep(patience=0)
    assert not kept and not waiting.alive
    assert not queue.event_queue_per_concurrency_id["x"].queue


def test_a_page_between_two_calls_is_kept_for_a_while(queue, presence):
    """A call that it makes begins that time anew."""
    kept = queue.pending_messages_per_session
    open_stream(presence, heartbeat_of("page"))
    for session in ("page", "call"):
        open_stream(presence, session)
        kept[session] = asyncio.Queue()
        close_stream(presence, session)
    assert list(kept) == ["page"]
    kept["other"] = asyncio.Queue()
    kept.renew("page")
    kept.renew("nobody")
    for number in range(MOST_UNHEARD - 1):
        kept[f"stranger {number}"] = asyncio.Queue()
    assert "page" in kept and "other" not in kept and len(kept) == MOST_UNHEARD
    kept.sweep(patience=0)
    assert not kept


def test_a_queue_that_breaks_goes_on_with_its_events(queue, caplog, monkeypatch):
    async def scenario():
        turns = []

        def broken_at_first():
            turns.append(len(turns))
            if len(turns) == 1:
                raise KeyError("broken")

        monkeypatch.setattr(queue, "get_events", broken_at_first)
        wait_for_its_turn(queue, "viewer")
        queue.active_jobs = [None]
        carried_on = asyncio.create_task(asyncio.sleep(60))
        queue._asyncio_tasks.add(carried_on)
        loop = asyncio.create_task(queue.start_processing())
        while len(turns) < 3:
            await asyncio.sleep(0.01)
        assert queue.works and not carried_on.done()
        queue.close()
        await loop
        assert not queue.works
        await asyncio.sleep(0)
        assert carried_on.cancelled()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert "it is started again" in caplog.text


def test_a_queue_that_ended_does_not_say_that_it_works(queue):
    async def scenario():
        loop = asyncio.create_task(queue.start_processing())
        await asyncio.sleep(0.01)
        assert queue.works
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        assert not queue.works

    asyncio.run(scenario())
