"""From rewards to a better writer of edits: choose what to learn from, learn it, judge the new version, hand it out."""
