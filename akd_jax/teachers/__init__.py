"""Teachers: sources of teacher outputs for a batch, live or stored."""

from akd_jax.teachers.live import LiveTeacher, StoredTeacher

__all__ = ["LiveTeacher", "StoredTeacher"]
