const states = new WeakMap()

// base64 of packed bits <-> cells of 0 and 1
function unpack(text, side) {
  const cells = new Uint8Array(side * side)
  if (!text) return cells
  const raw = atob(text)
  for (let k = 0; k < cells.length; k++) cells[k] = (raw.charCodeAt(k >> 3) >> (7 - (k & 7))) & 1
  return cells
}
function pack(cells) {
  const raw = new Uint8Array(cells.length >> 3)
  cells.forEach((on, k) => { if (on) raw[k >> 3] |= 1 << (7 - (k & 7)) })
  return btoa(String.fromCharCode(...raw))
}

export default function (component) {
  const { data, parentElement, setStateValue } = component
  const field = parentElement.querySelector("#field")
  const side = data.side
  let state = states.get(parentElement)
  if (!state) {
    state = { cells: unpack(data.cells, side), sent: data.cells, pen: [side >> 1, side >> 1], last: null,
      erase: false, held: false, timer: 0 }
    states.set(parentElement, state)
    field.width = field.height = side
  } else if (data.cells !== state.sent && !state.timer && state.last === null) {
    state.cells = unpack(data.cells, side)  // another address
    state.sent = data.cells
  }
  const context = field.getContext("2d")

  function paint() {
    const image = context.createImageData(side, side)
    state.cells.forEach((on, k) => {
      const level = on ? 255 : 0
      image.data.set([level, level, level, 255], 4 * k)
    })
    if (parentElement.activeElement === field || document.activeElement === field) {
      const k = state.pen[1] * side + state.pen[0]
      image.data.set([209, 98, 43, 255], 4 * k)
    }
    context.putImageData(image, 0, 0)
  }
  function send(delay) {
    clearTimeout(state.timer)
    state.timer = setTimeout(() => {
      state.timer = 0
      const text = state.cells.some((on) => on) ? pack(state.cells) : ""
      if (text === state.sent) return
      state.sent = text
      setStateValue("cells", text)
    }, delay)
  }
  function dot(x, y, on) {
    const radius = on ? 2.2 : 3.2
    for (let b = -3; b <= 3; b++) for (let a = -3; a <= 3; a++) {
      const i = Math.round(x) + a, j = Math.round(y) + b
      if (a * a + b * b <= radius * radius && i >= 0 && j >= 0 && i < side && j < side) state.cells[j * side + i] = on
    }
  }
  function line(from, to, on) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])))
    for (let k = 0; k <= steps; k++)
      dot(from[0] + ((to[0] - from[0]) * k) / steps, from[1] + ((to[1] - from[1]) * k) / steps, on)
  }
  function place(event) {
    const box = field.getBoundingClientRect()
    return [((event.clientX - box.left) / box.width) * side, ((event.clientY - box.top) / box.height) * side]
  }
  field.onpointerdown = (event) => {
    event.preventDefault()
    field.focus({ preventScroll: true })
    field.setPointerCapture(event.pointerId)
    state.last = place(event)
    state.pen = state.last.map((v) => Math.min(side - 1, Math.max(0, Math.round(v))))
    line(state.last, state.last, state.erase ? 0 : 1)
    paint()
  }
  field.onpointermove = (event) => {
    if (state.last === null) return
    const now = place(event)
    line(state.last, now, state.erase ? 0 : 1)
    state.last = now
    paint()
  }
  field.onpointerup = field.onpointercancel = () => {
    if (state.last === null) return
    state.last = null
    send(250)
    paint()
  }
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
  field.onkeydown = (event) => {
    const move = moves[event.key]
    if (move) {
      const before = state.pen
      state.pen = [0, 1].map((k) => Math.min(side - 1, Math.max(0, before[k] + 2 * move[k])))
      if (state.held) line(before, state.pen, 1)
    } else if (event.key === " " || event.key === "Enter") {
      state.held = true
      dot(...state.pen, 1)
    } else if (event.key === "Backspace") dot(...state.pen, 0)
    else if (event.key === "Delete") state.cells.fill(0)
    else return
    event.preventDefault()
    event.stopPropagation()
    if (!move || state.held) send(600)
    paint()
  }
  field.onkeyup = (event) => {
    if (event.key === " " || event.key === "Enter") state.held = false
  }
  field.onblur = () => { state.held = false; paint() }
  field.onfocus = paint
  const eraser = parentElement.querySelector("#eraser")
  eraser.onclick = () => {
    state.erase = !state.erase
    eraser.setAttribute("aria-pressed", String(state.erase))
  }
  parentElement.querySelector("#clear").onclick = () => {
    state.cells.fill(0)
    send(0)
    paint()
  }
  paint()
}
