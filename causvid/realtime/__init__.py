"""Runs over one socket: the messages, a connection's sessions, and its route. It knows no page."""
