"""The broker: topology, publishing, the lanes that consume partitions, and how workers share them."""
