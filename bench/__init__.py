"""Benchmarks of DNMS beside bare loops and peers in the same run; `docs/performance.md` says what they said."""
