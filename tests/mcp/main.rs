//! The door for agents: `skillhost mcp` as its clients see it.
//!
//! The official client (`mcp` on PyPI) runs in a virtual environment that the test run makes, once;
//! its scenarios stand in `client.py`. What that client would never do, `hostile` does by itself.

mod harness;

mod hostile;
mod http;
mod official;
mod older;
mod replaced;
