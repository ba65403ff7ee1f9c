"""`python -m seal_ray.cli`: as `python -m seal_ray`."""

from seal_ray.cli import main

if __name__ == "__main__":
    main()
