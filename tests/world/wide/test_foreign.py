"""Names in other languages are read as words of the vocabulary, and as nothing else."""

import itertools

from causvid.world.tokenizer import word_tokenizer
from causvid.world.wide import ALIASES, VOCABULARY


def test_every_alias_stands_for_one_word_of_the_vocabulary():
    others = list(itertools.chain(*ALIASES.values()))
    assert len(others) == len(set(others)) > 600
    assert set(ALIASES) <= set(VOCABULARY)
    assert not set(others) & set(VOCABULARY)


def test_a_prompt_in_another_language_gives_the_tokens_of_the_english_one():
    tokenizer = word_tokenizer(VOCABULARY, 24, ALIASES)
    english = tokenizer("the red cat and two horse night").input_ids
    for text in ("Die rote Katze und zwei Pferd, Nacht", "el rojo gato y dos caballo noche"):
        foreign = tokenizer(text).input_ids
        assert foreign == english


def test_words_that_only_contain_an_alias_are_left_alone():
    tokenizer = word_tokenizer(VOCABULARY, 24, ALIASES)
    unknown = tokenizer.unk_token_id
    assert tokenizer("chateaux").input_ids[0] == unknown
    assert tokenizer("chat").input_ids[0] == tokenizer("cat").input_ids[0] != unknown


def test_the_aliases_are_kept_in_a_saved_tokenizer(tmp_path):
    word_tokenizer(VOCABULARY, 24, ALIASES).save_pretrained(tmp_path)
    again = type(word_tokenizer(["a"], 4)).from_pretrained(tmp_path)
    assert again("perro").input_ids == again("dog").input_ids
