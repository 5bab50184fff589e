"""What is deployed around our processes: the proxy, the rules that wake somebody, the manifests."""
