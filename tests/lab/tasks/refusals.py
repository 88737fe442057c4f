"""What a refusal of data looks like."""

import pytest


def assert_refused(error, call, *mentions):
    """The call raises this error, on one line, without a chained traceback, with all that it has to mention."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is error
    assert message.startswith("data: got ")
    assert "\n" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    for mention in mentions:
        assert str(mention) in message
