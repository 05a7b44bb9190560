const states = new WeakMap()
const BLUE = [33, 102, 172], WHITE = [247, 247, 247], RED = [178, 24, 43]

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length)
  for (let k = 0; k < raw.length; k++) found[k] = raw.charCodeAt(k)
  return found
}
function draw(canvas, w, h, colour) {
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h }
  const context = canvas.getContext("2d"), image = context.createImageData(w, h)
  for (let k = 0; k < w * h; k++) image.data.set([...colour(k), 255], 4 * k)
  context.putImageData(image, 0, 0)
}
function picture(canvas, text, w, h) {
  const raw = bytes(text), n = raw.length / (w * h)
  draw(canvas, w, h, (k) => (n === 1 ? [raw[k], raw[k], raw[k]] : [raw[n * k], raw[n * k + 1], raw[n * k + 2]]))
}
function change(canvas, text, w, h) {
  const raw = new Int8Array(bytes(text).buffer)
  draw(canvas, w, h, (k) => {
    const share = Math.abs(raw[k]) / 127, end = raw[k] < 0 ? BLUE : RED
    return WHITE.map((v, c) => Math.round(v + (end[c] - v) * share))
  })
}
const percent = (p) => `${(100 * p).toFixed(p >= 0.1 ? 0 : 1)}%`

export default function (component) {
  const { data, parentElement } = component
  const $ = (selector) => parentElement.querySelector(selector)
  let state = states.get(parentElement)
  if (!state) { state = { at: 0, id: null, timer: 0 }; states.set(parentElement, state) }
  state.data = data
  const last = data.frames.length - 1, slider = $("#step")
  if (state.id !== data.id) {
    state.id = data.id
    state.at = data.reached > 0 ? data.reached : last
    stop()
  }
  slider.max = last
  const { w, h, names } = data

  function chart() {
    const svg = $("svg"), W = 420, H = 200
    const x = (k) => (last ? (W * k) / last : 0), y = (p) => H - H * p
    const line = (c, colour, width, dash) =>
      `<polyline fill="none" stroke="${colour}" stroke-width="${width}" ${dash ? `stroke-dasharray="${dash}"` : ""} vector-effect="non-scaling-stroke" points="${data.p.map((row, k) => `${x(k).toFixed(1)},${y(row[c]).toFixed(1)}`).join(" ")}"/>`
    const others = names.map((_, c) => c).filter((c) => c !== data.source && c !== data.target)
    svg.innerHTML = others.map((c) => line(c, "#7b8794", 1)).join("") + line(data.source, "#3b6fb6", 2.5) +
      line(data.target, "#d1622b", 2.5, "7 4") + `<line id="mark" y1="0" y2="${H}" stroke="currentColor" stroke-width="1" vector-effect="non-scaling-stroke"/>`
    svg.setAttribute("aria-label", `Probability of ${names[data.source]} falls from ${percent(data.p[0][data.source])} to ${percent(data.p[last][data.source])}; that of ${names[data.target]} changes from ${percent(data.p[0][data.target])} to ${percent(data.p[last][data.target])}, over ${last} steps`)
    $(".legend").innerHTML = ""
    for (const [text, colour] of [[`― ${names[data.source]} (input)`, "#3b6fb6"], [`╌ ${names[data.target]} (target)`, "#d1622b"], ["― other classes", "#7b8794"]]) {
      const b = document.createElement("b"), mark = document.createElement("span")
      mark.textContent = text[0]
      mark.style.color = colour
      b.append(mark, text.slice(1))
      $(".legend").append(b)
    }
  }
  function paint() {
    const k = state.at, row = data.p[k], top = row.indexOf(Math.max(...row))
    slider.value = k
    picture($(".now"), data.frames[k], w, h)
    change($(".change"), data.changes[k], w, h)
    const said = `step ${k} of ${last} · classified as ${names[top]} (${percent(row[top])})`
    $("#said").textContent = `${said} · ℓ2 ${data.l2[k]}`
    slider.setAttribute("aria-valuetext", said)
    $(".class").textContent = `classified as ${names[top]}, ${percent(row[top])}`
    $(".now").setAttribute("aria-label", `The modified image after ${k} steps, classified as ${names[top]}`)
    $(".change").setAttribute("aria-label", `The difference after ${k} steps, red is brighter, blue is darker`)
    $(".gain").textContent = `shown ${data.gain} · red brighter, blue darker`
    const mark = $("#mark"), at = last ? (420 * k) / last : 0
    mark.setAttribute("x1", at); mark.setAttribute("x2", at)
    parentElement.querySelector(".steps").dataset.step = String(k)
  }
  function stop() {
    clearInterval(state.timer)
    state.timer = 0
    $("#play").textContent = "▶ Play"
    $("#play").setAttribute("aria-pressed", "false")
  }
  $("#play").onclick = () => {
    if (state.timer) { stop(); return }
    if (state.at >= last) state.at = 0
    $("#play").textContent = "❚❚ Pause"
    $("#play").setAttribute("aria-pressed", "true")
    state.timer = setInterval(() => {
      state.at += 1
      paint()
      if (state.at >= last) stop()
    }, Math.max(50, Math.min(250, 6000 / Math.max(1, last))))
  }
  const go = (step) => { stop(); state.at = Math.min(last, Math.max(0, state.at + step)); paint() }
  $("#back").onclick = () => go(-1)
  $("#next").onclick = () => go(1)
  slider.oninput = () => { stop(); state.at = Number(slider.value); paint() }
  picture($(".original"), data.frames[0], w, h)
  $(".original").setAttribute("aria-label", `The original image, a ${names[data.source]}`)
  $(".verdict").className = `verdict ${data.kind}`
  $(".verdict").textContent = data.text
  chart()
  paint()
  return () => clearInterval(state.timer)
}
