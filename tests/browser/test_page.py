"""The page as its users meet it: stories played in a real browser against the running product."""

from collections.abc import Iterator

import pytest

from tests.browser.stage import Missing, Stage, Story, stage, stories


def _listed() -> list[Story]:
    try:
        return list(stories())
    except Missing as missing:
        return [Story(f"missing: {missing}", "")]


@pytest.fixture(scope="module")
def the_stage() -> Iterator[Stage]:
    try:
        with stage() as given:
            yield given
    except Missing as missing:
        pytest.fail(str(missing))


@pytest.mark.timeout(360)
@pytest.mark.parametrize("story", _listed(), ids=lambda story: story.name.replace(" ", "_"))
def test_page(the_stage: Stage, story: Story) -> None:
    the_stage.play(story)
