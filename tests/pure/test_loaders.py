"""Which function makes a key: by its pattern, by the recorded call, or any."""

import pytest

from preheat import heat
from preheat.adapters.function import key_of
from preheat.adapters.loaders import LONGEST_RECIPE, USUAL, Loaders, Recipe, read_recipe, register_call
from preheat.errors import InvalidSetting


def test_a_pattern_goes_before_the_load_of_any_key():
    loaders = Loaders({"product:{n:int}": lambda n: ("product", n)}, "shop")
    load = loaders.find("product:7", Recipe())
    assert load is not None
    assert load() == ("product", 7)
    assert loaders.find("user:7", Recipe()) is None
    assert not loaders.make_all


def test_a_load_of_any_key_makes_any_key():
    loaders = Loaders(str.upper, "shop")
    load = loaders.find("a", Recipe())
    assert load is not None
    assert load() == "A"
    assert loaders.make_all


def test_a_registered_pattern_is_for_its_cache_alone():
    @heat.loader("only-here:{n:int}", cache="here")
    def make(n):
        return n

    assert Loaders(None, "here").find("only-here:1", Recipe()) is not None
    assert Loaders(None, "elsewhere").find("only-here:1", Recipe()) is None


def test_a_pattern_that_does_not_fit_its_function_is_one_sentence():
    with pytest.raises(InvalidSetting, match=r"make can't be called with the fields of its pattern 'a:\{id\}'"):

        @heat.loader("a:{id}")
        def make(number):
            return number


def sums(a, b=1):
    return a + b


def test_a_recorded_call_is_made_again():
    register_call(sums)
    name = f"{__name__}.sums"
    load = Loaders(None, "shop").find("any key", Recipe(name, key_of(name, [2], {"b": 3})))
    assert load is not None
    assert load() == 5


@pytest.mark.parametrize("recipe", [Recipe("nobody.knows", "a"), Recipe(f"{__name__}.sums", "[[1,2]]"), Recipe()])
def test_what_is_no_call_of_a_known_loader_makes_nothing(recipe):
    register_call(sums)
    assert Loaders(None, "shop").find("any key", recipe) is None


def test_a_recipe_that_says_nothing_takes_no_room():
    assert Recipe().text == ""
    assert read_recipe("") == Recipe()


def test_a_recipe_that_is_too_long_keeps_the_life_only():
    text = Recipe("shop.make", "x" * LONGEST_RECIPE, 30.0).text
    assert read_recipe(text) == Recipe(life_seconds=30.0)
    assert Recipe("shop.make", "x" * LONGEST_RECIPE, USUAL).text == ""


@pytest.mark.parametrize("text", ["document:a", "[", "[1]", '["a","b"]', '["a","b","c"]', "{}", "[" * 9_000])
def test_what_is_no_recipe_says_nothing(text):
    assert read_recipe(text) in (Recipe(), Recipe("a", "b"))
