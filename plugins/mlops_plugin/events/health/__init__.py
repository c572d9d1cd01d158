"""What the Monitor records: probes, incidents, and who was notified of them."""
