//! Bytes from a result: text, JSON, CSV, HTML, JUnit. No I/O.
