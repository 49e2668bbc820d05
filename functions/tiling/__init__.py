"""tiling: slides as Deep Zoom images, made as they are asked for.

Events in: none. Events out: none.
Routes: GET /viewer/{slide}.dzi, /viewer/{slide}_files/{level}/{col}_{row}.jpg, /viewer/{slide}/thumbnail.
`open_slides.py` keeps the slides that are being looked at open; who may look is asked each time.
"""

from functions.tiling.open_slides import close_idle
from functions.tiling.routes import router
from shared.runtime import Function

MINUTE = 60.0

function = Function("tiling", router)
function.every(MINUTE, "idle-slides")(close_idle)
