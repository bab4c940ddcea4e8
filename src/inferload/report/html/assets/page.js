"use strict";
(function () {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const narrow = window.matchMedia("(max-width: 40rem)");

  // var(--c1) stands for what the style sheet says in the light or in the dark
  function coloured(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((one) => coloured(one, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([name, one]) => [name, coloured(one, style)]));
    }
    return value;
  }

  function axis(own, style) {
    return Object.assign({
      gridcolor: style.getPropertyValue("--line"), zeroline: false, automargin: true,
      linecolor: style.getPropertyValue("--line"), fixedrange: narrow.matches,
    }, own);
  }

  function layout(chart, style) {
    const own = coloured(chart.layout, style);
    const found = Object.assign({
      height: chart.height, margin: { l: 10, r: 10, t: 32, b: 10 }, hovermode: "x unified",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: style.getPropertyValue("--text") },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      modebar: {
        bgcolor: "rgba(0,0,0,0)", color: style.getPropertyValue("--dim"),
        activecolor: style.getPropertyValue("--text"),
      },
      hoverlabel: {
        bgcolor: style.getPropertyValue("--card"), bordercolor: style.getPropertyValue("--line"),
        font: { color: style.getPropertyValue("--text") },
      },
    }, own);
    for (const name of Object.keys(found)) {
      if (/^[xy]axis\d*$/.test(name)) found[name] = axis(found[name], style);
    }
    return found;
  }

  function draw(chart) {
    const place = document.getElementById("chart-" + chart.name);
    const style = getComputedStyle(root);
    return Plotly.react(place, coloured(chart.data, style), layout(chart, style), {
      responsive: true, displaylogo: false,
      displayModeBar: narrow.matches ? false : "hover",
      // no more than these: one of Plotly's own would send the chart to its makers
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
  }

  // one a frame, so that the page answers meanwhile
  function drawFrom(number) {
    if (number < charts.length) {
      draw(charts[number]);
      requestAnimationFrame(() => drawFrom(number + 1));
    } else {
      root.dataset.drawn = String(charts.length);
    }
  }

  function show(theme) {
    root.dataset.theme = theme;
    charts.forEach(draw);
  }

  document.getElementById("theme").addEventListener("click", () => {
    show(root.dataset.theme === "dark" ? "light" : "dark");
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener(
    "change", (event) => show(event.matches ? "dark" : "light"));
  for (const command of document.querySelectorAll("pre.copied")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(command.textContent)
        .then(() => { button.textContent = "copied"; });
    });
    command.after(button);
  }
  requestAnimationFrame(() => drawFrom(0));
})();
