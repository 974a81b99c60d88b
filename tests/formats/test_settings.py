from typing import Any

import pytest

from spacy_crf_ner.formats.settings import check_bool, check_choice


@pytest.mark.parametrize("value", ["no", "false", 0, 1, None])
def test_what_is_neither_true_nor_false_is_refused(value: Any) -> None:
    check_bool("repair", True)
    check_bool("repair", False)
    with pytest.raises(ValueError, match=rf"the setting repair is {value!r}; give true or false"):
        check_bool("repair", value)


def test_a_name_that_is_none_of_the_choices_is_refused() -> None:
    for unit in ("characters", "utf-16"):
        check_choice("offsets", unit, ("characters", "utf-16"))
    with pytest.raises(ValueError, match="the setting offsets is 'bytes'; choose one of characters, utf-16"):
        check_choice("offsets", "bytes", ("characters", "utf-16"))
