"""What every part stands on and no network knows: the clock, ids, logging, an overlay over a dict."""
