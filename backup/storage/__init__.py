"""The media under a repository. One seam (`base.Storage`), one module a medium; knows nothing of keys or snapshots."""
