"""The front door: settings, window, OpenAI HTTP API, command line; composes the application."""
