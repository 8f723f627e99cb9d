"""Recordings that come in parts: complete when nothing is missing, and resumed where something is."""

import itertools

import numpy as np
import pytest
from cache_files import IDENTITY, add, assert_holds, embed, fill, key
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.cache import CachedRecording, EmbeddingCache
from birdemb.cache.chains import Placed, choose_parts
from birdemb.cache.shards import Part
from birdemb.cache.view import open_cache
from birdemb.errors import InputError

LONG = key(77)
ROWS = embed(77, 10)
PARTS = [(0, 4, False), (4, 8, False), (8, 10, True)]


def add_parts(root, numbers):
    cache = EmbeddingCache(root, IDENTITY)
    with cache.writer() as writer:
        for number in numbers:
            first, end, last = PARTS[number]
            writer.add(LONG, ROWS[first:end], first_window=first, last=last, seconds=50.0 if last else 0.0)
    return cache


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_parts_in_any_order_make_a_recording(tmp_path, order):
    cache = add_parts(tmp_path, order)
    for opened in (cache, EmbeddingCache(tmp_path, IDENTITY)):
        assert opened[LONG] == CachedRecording(LONG, 10, 50.0)
        np.testing.assert_array_equal(opened.read([LONG, LONG]), np.concatenate([ROWS, ROWS]))
        assert opened.find_parts([LONG]) == {}


@pytest.mark.parametrize("there", [[0], [1], [2], [0, 1], [0, 2], [1, 2]])
def test_an_unfinished_recording_does_not_count_and_is_resumed(tmp_path, there):
    fill(tmp_path, [1])
    cache = add_parts(tmp_path, there)
    for opened in (cache, EmbeddingCache(tmp_path, IDENTITY)):
        assert_holds(opened, [1])
        assert LONG not in opened
        assert opened.find([LONG, key(1)]).keys() == {key(1)}
        assert opened.find_parts([LONG, key(1), key(2)]) == {LONG: {PARTS[number][0] for number in there}}
        with pytest.raises(InputError, match="1 of 1 recordings are not in the cache"):
            opened.read([LONG])
    assert list(open_cache(tmp_path).recordings["sha256"]) == [key(1)]
    add_parts(tmp_path, set(range(3)) - set(there))
    np.testing.assert_array_equal(EmbeddingCache(tmp_path, IDENTITY).read([LONG]), ROWS)


def test_parts_of_this_run_and_of_an_earlier_one_are_put_together_before_the_end(tmp_path):
    add_parts(tmp_path, [0])
    cache = EmbeddingCache(tmp_path, IDENTITY)
    with cache.writer() as writer:
        writer.add(LONG, ROWS[8:], first_window=8, last=True, seconds=50.0)
        writer.flush()
        assert cache.find_parts([LONG]) == {LONG: {0, 8}}
        assert len(cache) == 0
        writer.add(LONG, ROWS[4:8], first_window=4, last=False)
        writer.flush()
        assert len(cache) == 1
        np.testing.assert_array_equal(cache.read([LONG]), ROWS)


def test_the_same_part_twice_is_harmless(tmp_path):
    add_parts(tmp_path, [0, 0, 1])
    add_parts(tmp_path, [1, 2, 2])
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert len(cache) == 1
    np.testing.assert_array_equal(cache.read([LONG]), ROWS)


def test_another_division_into_parts_is_harmless(tmp_path):
    add_parts(tmp_path, [1, 2])
    with EmbeddingCache(tmp_path, IDENTITY).writer() as writer:
        writer.add(LONG, ROWS, seconds=50.0)
    cache = EmbeddingCache(tmp_path, IDENTITY)
    np.testing.assert_array_equal(cache.read([LONG]), ROWS)
    assert cache[LONG].windows == 10


def test_a_last_part_may_be_empty_and_no_other(tmp_path):
    cache = EmbeddingCache(tmp_path, IDENTITY)
    with cache.writer() as writer:
        writer.add(LONG, ROWS, first_window=0, last=False)
        writer.add(LONG, ROWS[:0], first_window=10, last=True, seconds=50.0)
        writer.add(key(5), ROWS[:0], seconds=0.0)
        add(writer, 1)
        with pytest.raises(InputError, match="0 windows from window 4"):
            writer.add(key(6), ROWS[:0], first_window=4, last=False)
        with pytest.raises(InputError, match="from window -1"):
            writer.add(key(6), ROWS, first_window=-1)
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert cache.damaged == []
    assert cache.find([LONG, key(5)]) == {
        LONG: CachedRecording(LONG, 10, 50.0),
        key(5): CachedRecording(key(5), 0, 0.0),
    }
    assert cache.read([key(5)]).shape == (0, 4)
    view = open_cache(tmp_path)
    assert sorted(view.recordings["windows"]) == [0, 2, 10]
    np.testing.assert_array_equal(view.embeddings, cache.read(list(view.recordings["sha256"])))
    np.testing.assert_array_equal(view.gather(np.arange(12)), view.embeddings)


def test_an_empty_part_alone_in_a_shard_is_whole(tmp_path):
    with EmbeddingCache(tmp_path, IDENTITY).writer() as writer:
        writer.add(key(5), ROWS[:0], seconds=0.0)
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert (cache.damaged, len(cache)) == ([], 1)


pieces = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.booleans(), st.sampled_from("ab")), max_size=10)


@settings(max_examples=300)
@given(pieces, st.randoms())
def test_chosen_parts_cover_each_window_once(pieces, random):
    parts = [Placed(Part("x", first, windows, 0, last, 0.0, ""), shard) for first, windows, last, shard in pieces]
    chosen = choose_parts(parts)
    ends = {0}
    for _ in parts:  # as often as a chain can be long
        ends |= {p.part.first_window + p.part.windows for p in parts if not p.part.last and p.part.first_window in ends}
    assert (chosen is not None) == any(placed.part.last and placed.part.first_window in ends for placed in parts)
    if chosen is not None:
        window = 0
        for placed in chosen:
            assert placed.part.first_window == window
            assert placed.part.last == (placed is chosen[-1])
            window += placed.part.windows
        again = list(parts)
        random.shuffle(again)
        assert choose_parts(again) == chosen
