"use strict";
const config = {
  responsive: true,
  displaylogo: false,
  // Named one by one: plotly's own choice has a button that sends the figure away.
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};
const plots = [...document.querySelectorAll(".plot")];
for (const plot of plots) {
  const figure = JSON.parse(plot.previousElementSibling.textContent);
  Plotly.newPlot(plot, figure.data, figure.layout, config);
}
// What is folded has no width until it is opened, and a link to it opens it.
for (const part of document.querySelectorAll("details.part")) {
  part.addEventListener("toggle", () => {
    for (const plot of part.querySelectorAll(".plot")) Plotly.Plots.resize(plot);
  });
}
const unfold = () => {
  const part = document.getElementById(location.hash.slice(1))?.closest("details");
  if (part) part.open = true;
};
window.addEventListener("hashchange", unfold);
unfold();
// The key shows and hides a run in every figure at once.
for (const box of document.querySelectorAll(".key input")) {
  box.addEventListener("change", () => {
    for (const plot of plots) {
      const traces = [...plot.data.keys()].filter((i) => plot.data[i].meta === box.value);
      if (traces.length) Plotly.restyle(plot, { visible: box.checked }, traces);
    }
  });
}
// Plots keep the width of the screen unless they are told that of the paper.
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.part")) part.open = true;
  for (const plot of plots) Plotly.relayout(plot, { width: 640 });
});
window.addEventListener("afterprint", () => {
  for (const plot of plots) Plotly.relayout(plot, { width: null, autosize: true });
});
