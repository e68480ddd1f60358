"""python -m cctv_storaged"""

from cctv_storaged.cli import main

main()
