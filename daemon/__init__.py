"""The long-running side: slot, receive, sentinel, supervisor."""
