"""The console: a page and its parts as they lie here, without a build step. See docs/console.md."""
