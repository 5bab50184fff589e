"""Documents about the interface itself: OpenAPI and AsyncAPI, for programs and as pages for people."""
