"""Side by side with peers, in one run; never part of the tests."""
