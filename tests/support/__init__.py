"""What tests share: servers, ways into databases, deployments to try things in."""
