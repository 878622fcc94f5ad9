"""What schemathesis is not to try."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    # To break a header's type it sends `null`, which as a header is a text like any other.
    return all(value != "null" for value in (case.headers or {}).values())
