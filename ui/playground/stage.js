const states = new WeakMap()
const packs = new Map()  // answers for every target and ε by the address of their file; null while it is fetched
const BLUE = [33, 102, 172], WHITE = [247, 247, 247], RED = [178, 24, 43]

function fetchPack(address, done) {
  if (!address || packs.has(address)) return
  packs.set(address, null)
  if (packs.size > 8) packs.delete(packs.keys().next().value)
  fetch(address)
    .then((answer) => {
      if (!answer.ok) throw new Error(answer.statusText)
      return new Response(answer.body.pipeThrough(new DecompressionStream("gzip"))).json()
    })
    .then((found) => { packs.set(address, found); done() })
    .catch(() => packs.delete(address))  // then every answer is asked for, as before there was a file
}
function bytes(text) {
  const raw = atob(text)
  const found = new Uint8Array(raw.length)
  for (let k = 0; k < raw.length; k++) found[k] = raw.charCodeAt(k)
  return found
}
function picture(canvas, text, w, h) {
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h }
  const raw = bytes(text), channels = raw.length / (w * h)
  const context = canvas.getContext("2d"), image = context.createImageData(w, h)
  for (let k = 0; k < w * h; k++) {
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = raw[channels * k + (channels === 1 ? 0 : c)]
    image.data[4 * k + 3] = 255
  }
  context.putImageData(image, 0, 0)
}
function change(canvas, text, w, h) {
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h }
  const raw = new Int8Array(bytes(text).buffer)
  const context = canvas.getContext("2d"), image = context.createImageData(w, h)
  for (let k = 0; k < w * h; k++) {
    const share = Math.abs(raw[k]) / 127, end = raw[k] < 0 ? BLUE : RED
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = Math.round(WHITE[c] + (end[c] - WHITE[c]) * share)
    image.data[4 * k + 3] = 255
  }
  context.putImageData(image, 0, 0)
}
function blank(canvas, w, h) {
  canvas.width = w; canvas.height = h
}
function percent(p) {
  return p >= 0.9995 ? "100%" : p >= 0.0995 ? `${Math.round(100 * p)}%` : p >= 0.0005 ? `${(100 * p).toFixed(1)}%` : "0%"
}
function bars(box, names, values, what) {
  if (!values) { box.replaceChildren(); box.removeAttribute("role"); return }
  const top = values.indexOf(Math.max(...values))
  if (box.childElementCount !== 3 * names.length) {
    box.replaceChildren(...names.flatMap((name) => {
      const n = document.createElement("div"), b = document.createElement("div"), v = document.createElement("div")
      n.className = "n"; n.textContent = name
      b.className = "b"; b.append(document.createElement("i"))
      v.className = "v"
      return [n, b, v]
    }))
  }
  names.forEach((name, k) => {
    const [n, b, v] = [0, 1, 2].map((j) => box.children[3 * k + j])
    n.textContent = name
    b.firstChild.style.width = `${100 * values[k]}%`
    v.textContent = percent(values[k])
    n.classList.toggle("top", k === top); v.classList.toggle("top", k === top)
  })
  box.setAttribute("role", "img")
  box.setAttribute("aria-label", `${what}: ${names.map((name, k) => `${name} ${percent(values[k])}`).join(", ")}`)
}

export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component
  const $ = (selector) => parentElement.querySelector(selector)
  let state = states.get(parentElement)
  if (!state) { state = { at: 0, target: 0, set: null, asked: null, timer: 0 }; states.set(parentElement, state) }
  state.data = data
  const stage = $("#stage"), eps = $("#eps"), target = $("#target")
  const set = JSON.stringify([data.id, data.at, data.target])
  if (set !== state.set) {  // the address, a link or another image: the page says where the sliders stand
    state.set = set
    state.at = data.at
    state.target = Math.max(0, data.targets.findIndex(([value]) => value === data.target))
  }
  stage.classList.toggle("projector", Boolean(data.projector))
  $("#wait").textContent = data.wait || ""
  $("#eps-box").hidden = !data.stops.length
  $("#target-box").hidden = !data.targets.length
  $("#eps-box span").textContent = data.says
  eps.max = Math.max(0, data.stops.length - 1)
  target.max = Math.max(0, data.targets.length - 1)

  const frame = (side) => {
    const name = `${data.targets[state.target]?.[0] ?? "any"}|${data.stops.length ? state.at : 0}`
    return side.frames[name] ?? packs.get(side.pack)?.[name]
  }

  function paint() {
    const { w, h } = data
    eps.value = state.at
    target.value = state.target
    const said = data.stops[state.at] || "", wished = data.targets[state.target]?.[1] || ""
    $("#eps-text").textContent = said
    $("#target-text").textContent = wished
    eps.setAttribute("aria-valuetext", said)
    target.setAttribute("aria-valuetext", wished)
    const sides = [$("#side0"), $("#side1")]
    $(".sides").classList.toggle("single", data.sides.length < 2)
    picture($(".original"), data.x, w, h)
    $(".original").setAttribute("aria-label", data.alt)
    bars($(".bars.clean"), data.names, data.sides[0]?.clean, "Probabilities of the image as it is")
    data.sides.forEach((side, place) => {
      const box = sides[place], $$ = (selector) => box.querySelector(selector)
      $$("h2").textContent = side.name
      $$("h2").title = side.id
      const now = frame(side)
      box.classList.toggle("busy", !now)
      box.setAttribute("aria-busy", String(!now))
      const proof = $$(".proof")
      proof.textContent = side.proof || ""
      proof.classList.toggle("sure", Boolean(side.sure))
      const verdict = $$(".verdict")
      if (!now) {
        if (side.wrong) { verdict.className = "verdict"; verdict.textContent = side.wrong; box.setAttribute("aria-busy", "false") }
        else if (data.wait && verdict.textContent === "") verdict.textContent = side.before || ""
        if (!state.painted) [$$(".attacked"), $$(".change")].forEach((canvas) => blank(canvas, w, h))
        return
      }
      picture($$(".attacked"), now.a, w, h)
      change($$(".change"), now.d, w, h)
      $$(".attacked").setAttribute("aria-label", `Adversarial image for ${side.name}. ${now.t}`)
      $$(".change").setAttribute("aria-label", `The change, red is brighter, blue is darker. ${now.c}`)
      $$(".gain").textContent = now.g ? `shown ${now.g} · red brighter, blue darker` : "no change"
      $$(".amount").textContent = now.c
      bars($$(".bars.after"), data.names, now.p, "Probabilities of the adversarial image")
      verdict.className = `verdict ${now.k}`
      if (verdict.textContent !== now.t) verdict.textContent = now.t
      state.painted = true
    })
    stage.dataset.painted = `${data.id}|${data.targets[state.target]?.[0] ?? "any"}|${state.at}|${data.sides.every((side) => frame(side) || side.wrong)}`
    stage.dataset.whole = data.sides.every((side) => packs.get(side.pack))
  }
  function later(name, value) {  // while a slider is dragged over what is not there yet: a few questions a second
    if (state.timer) return
    state.timer = setTimeout(() => { state.timer = 0; setStateValue(name, value()) }, 200)
  }
  const there = () => data.sides.every((side) => frame(side) || side.wrong)
  const at = () => data.values[state.at]
  const wish = () => data.targets[state.target][0]
  eps.oninput = () => { state.at = Number(eps.value); paint(); if (!there()) later("eps", at) }
  eps.onchange = () => setStateValue("eps", at())
  target.oninput = () => { state.target = Number(target.value); paint(); if (!there()) later("target", wish) }
  target.onchange = () => setStateValue("target", wish())
  paint()
  state.paint = paint
  data.sides.forEach((side) => fetchPack(side.pack, () => state.paint()))
  if (data.more && data.more !== state.asked) {
    state.asked = data.more
    // while PyTorch loads, a question may be lost: it is asked again until an answer is there
    const ask = (times) => {
      if (state.data !== data) return
      setTriggerValue("more", `${data.more}|${times}`)
      if (data.wait) setTimeout(() => ask(times + 1), 1000)
    }
    setTimeout(() => ask(0), data.wait ? 300 : 20)
  }

  // in projector mode the arrow keys move both sliders, wherever the focus is, but in a field to type in
  const keys = (event) => {
    if (!state.data.projector || event.altKey || event.ctrlKey || event.metaKey) return
    const path = event.composedPath()
    if (path.some((node) => ["INPUT", "TEXTAREA", "SELECT"].includes(node.tagName) && node.type !== "range")) return
    if (path.some((node) => node.getAttribute?.("role") === "application" || node.getAttribute?.("role") === "slider")) return
    const moves = { ArrowLeft: [eps, -1], ArrowRight: [eps, 1], ArrowDown: [target, -1], ArrowUp: [target, 1] }
    const move = moves[event.key]
    if (!move || (move[0] === eps && !state.data.stops.length) || !state.data.targets.length) return
    event.preventDefault()
    const [slider, step] = move
    slider.value = Number(slider.value) + step
    slider.oninput()
    slider.onchange()
  }
  if (state.keys) document.removeEventListener("keydown", state.keys)
  state.keys = keys
  document.addEventListener("keydown", keys)
  return () => document.removeEventListener("keydown", state.keys)
}
