"""The parts that are deployed around our processes: the proxy, the rules that wake somebody, the manifests."""
