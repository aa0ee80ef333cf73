"""What the operator wrote: typed settings, loading, units, errors. The ground floor: imports nothing of ours."""
