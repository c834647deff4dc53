"""Laws of patterns: what is filled in is taken out again, whatever the text."""

from hypothesis import given
from hypothesis import strategies as st

from preheat.adapters.django import key_and_version, key_text
from preheat.adapters.loaders import LONGEST_RECIPE, USUAL, Recipe, read_recipe
from preheat.adapters.patterns import Pattern

FIELDS = st.text(st.characters(exclude_characters=":/", exclude_categories=("Cs",)), min_size=1, max_size=30)
NUMBERS = st.integers(-(10**18) + 1, 10**18 - 1)
ANY = st.text(min_size=1, max_size=30)


@given(FIELDS, NUMBERS, ANY)
def test_what_is_filled_in_is_taken_out(name, number, rest):
    found = Pattern("shop:{name}/{number:int}:{rest:any}").match(f"shop:{name}/{number}:{rest}")
    assert found == {"name": name, "number": number, "rest": rest}


@given(st.text(max_size=200))
def test_whatever_matches_is_made_of_what_was_taken_out(key):
    found = Pattern("{a}-{b:any}").match(key)
    assert found is None or f"{found['a']}-{found['b']}" == key


LIVES = st.sampled_from([None, USUAL]) | st.floats(0, 1e9)


@given(st.builds(Recipe, st.text(max_size=50), st.text(max_size=300), LIVES))
def test_a_recipe_is_read_as_it_was_written(recipe):
    try:
        text = recipe.text
    except UnicodeEncodeError:  # lone surrogates, which no history holds
        return
    assert len(text) <= LONGEST_RECIPE
    assert read_recipe(text) == recipe


@given(st.text(max_size=300))
def test_whatever_stands_in_a_history_is_a_recipe_or_says_nothing(text):
    assert isinstance(read_recipe(text), Recipe)


@given(st.text(max_size=50), st.none() | st.integers(0, 10**6))
def test_a_name_in_history_leads_back_to_key_and_version(key, version):
    found, known = key_and_version(key_text(key, version, 1))
    assert (found, 1 if known is None else known) == (key, 1 if version is None else version)
