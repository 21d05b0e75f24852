"""Start the zygote: `python -s -S -B -m guest FD PLAN`, from the folder that holds `guest`."""

from .warden import main

main()
