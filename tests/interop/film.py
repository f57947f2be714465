"""Frames of terminals as one animated SVG, for any page that shows pictures.

Frames lie one above the other; a CSS animation moves the strip behind a window. A line that many frames show is drawn
once. Where nothing moves (no CSS animation, or a reader who wants none) the last frame stands.

Invariant: the same frames give the same bytes.
"""

from xml.sax.saxutils import escape

CHAR_WIDTH, LINE_HEIGHT, FONT_SIZE = 7.8, 17, 13
PADDING, BAR, CAPTION, GAP = 12, 26, 34, 14
BACKGROUND, FOREGROUND, BAR_COLOUR, CAPTION_COLOUR = "#0d1117", "#e6edf3", "#21262d", "#7d8590"
# What a terminal's bright colours look like here: readable on the dark ground.
COLOURS = {"00ff00": "#3fb950", "ffff00": "#d29922", "ff0000": "#f85149", "7f7f7f": "#8b949e"}
NO_BREAK = "\u00a0"
STYLE = ('.t{{font:{size}px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}}'
         '.c{{font:15px system-ui,sans-serif;fill:{caption};text-anchor:middle}}'
         '.film{{transform:translateY(-{last}px);animation:film {seconds:g}s step-end infinite}}'
         '@keyframes film{{{stops}}}'
         '@media(prefers-reduced-motion:reduce){{.film{{animation:none}}}}')


class Film:
    def __init__(self, titles: list, columns: int, rows: int):
        self.titles, self.columns, self.rows = titles, columns, rows
        self.frames = []  # (lines of each terminal, caption, seconds)

    def shot(self, screens: list, caption: str, seconds: float):
        """What the screens show now, for so long."""
        lines = [[runs(screen, row) for row in range(self.rows)] for screen in screens]
        if self.frames and self.frames[-1][:2] == (lines, caption):
            seconds += self.frames.pop()[2]
        self.frames.append((lines, caption, seconds))

    def svg(self) -> str:
        inner = self.columns * CHAR_WIDTH
        width = inner + 2 * PADDING
        height = BAR + self.rows * LINE_HEIGHT + PADDING
        total_width = len(self.titles) * width + (len(self.titles) - 1) * GAP
        frame_height = height + CAPTION
        total = sum(seconds for _, _, seconds in self.frames)
        drawn, strip, stops, at = {}, [], [], 0.0
        for number, (terminals, caption, seconds) in enumerate(self.frames):
            top = number * frame_height
            stops.append(f"{100 * at / total:.3f}%{{transform:translateY(-{top:g}px)}}")
            at += seconds
            for place, lines in enumerate(terminals):
                left = place * (width + GAP) + PADDING
                for row, line in enumerate(lines):
                    if line:
                        name = drawn.setdefault(tuple(line), f"l{len(drawn)}")
                        strip.append(f'<use href="#{name}" x="{left:g}" y="{top + BAR + 4 + row * LINE_HEIGHT:g}"/>')
            strip.append(f'<text class="c" x="{total_width / 2:g}" y="{top + height + 24:g}">{escape(caption)}</text>')
        style = STYLE.format(size=FONT_SIZE, caption=CAPTION_COLOUR, last=f"{(len(self.frames) - 1) * frame_height:g}",
                             seconds=total, stops="".join(stops))
        windows = [window(title, place * (width + GAP), width, height) for place, title in enumerate(self.titles)]
        lines = [f'<g id="{name}">{"".join(piece(run) for run in line)}</g>' for line, name in drawn.items()]
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width:g} {frame_height:g}" '
            f'width="{total_width:g}" height="{frame_height:g}">',
            f"<title>{escape(' and '.join(self.titles))}</title>", f"<style>{style}</style>",
            "<defs>", *lines, "</defs>", *windows,
            f'<svg width="{total_width:g}" height="{frame_height:g}"><g class="film t">', *strip, "</g></svg>", "</svg>", ""])


def runs(screen, row: int) -> list:
    """The pieces of one line that look alike: (column, text, colour, ground, bold, struck)."""
    pieces, line = [], screen.buffer[row]
    for column in range(screen.columns):
        char = line[column]
        ink = COLOURS.get(char.fg, FOREGROUND)
        look = (BACKGROUND if char.reverse else ink, FOREGROUND if char.reverse else None, char.bold, char.strikethrough)
        if pieces and pieces[-1][2:] == look:
            start, text = pieces[-1][:2]
            pieces[-1] = (start, text + char.data, *look)
        else:
            pieces.append((column, char.data, *look))
    # Blanks are nothing, unless they have a ground.
    return [piece for piece in pieces if piece[1].strip() or piece[3]]


def piece(run: tuple) -> str:
    column, text, ink, ground, bold, struck = run
    left, width = column * CHAR_WIDTH, len(text) * CHAR_WIDTH
    drawn = ""
    if ground:
        drawn += f'<rect x="{left:g}" y="0" width="{width:g}" height="{LINE_HEIGHT}" fill="{ground}"/>'
    shown = text.rstrip()
    blanks = len(shown) - len(shown.lstrip())
    shown, left = shown.lstrip(), left + blanks * CHAR_WIDTH
    if shown:
        weight = ' font-weight="bold"' if bold else ""
        line = ' text-decoration="line-through"' if struck else ""
        # The length keeps columns in line whatever font the reader has; blanks that do not break are not folded either.
        drawn += (f'<text x="{left:g}" y="{LINE_HEIGHT - 4}" fill="{ink}" textLength="{len(shown) * CHAR_WIDTH:g}"'
                  f"{weight}{line}>{escape(shown.replace(' ', NO_BREAK))}</text>")
    return drawn


def window(title: str, left: float, width: float, height: float) -> str:
    dots = "".join(f'<circle cx="{left + 16 + 16 * nth:g}" cy="{BAR / 2:g}" r="5" fill="{colour}"/>'
                   for nth, colour in enumerate(["#ff5f57", "#febc2e", "#28c840"]))
    return (f'<rect x="{left:g}" y="0" width="{width:g}" height="{height:g}" rx="8" fill="{BACKGROUND}"/>'
            f'<path d="M{left:g} {BAR}v-{BAR - 8}a8 8 0 0 1 8-8h{width - 16:g}a8 8 0 0 1 8 8v{BAR - 8}z" fill="{BAR_COLOUR}"/>'
            f'{dots}<text class="t" x="{left + width / 2:g}" y="{BAR / 2 + 4:g}" text-anchor="middle" fill="#8b949e">'
            f'{escape(title)}</text>')
