// One chart over time. uPlot draws on a canvas; its data is told to screen readers in a sentence.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Line { name: string; values: number[]; colour: "--accent" | "--bad" | "--heal" | "--warn" }

export function Chart(p: { title: string; times: number[]; lines: Line[]; show: (n: number) => string; height?: number }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = [p.times, ...p.lines.map((l) => l.values)] as uPlot.AlignedData;
  useEffect(() => {
    const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    plot.current = new uPlot({
      width: box.current!.clientWidth, height: p.height ?? 170, padding: [8, 8, 0, 0], cursor: { y: false }, legend: { show: p.lines.length > 1, live: false },
      scales: { y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 64, values: (_u, v) => v.map(p.show) }],
      series: [{}, ...p.lines.map((l) => ({ label: l.name, stroke: css(l.colour), width: 1.5, fill: css(l.colour) + "1c", points: { show: false }, value: (_u: uPlot, v: number | null) => (v == null ? "–" : p.show(v)) }))],
    }, data, box.current!);
    const watch = new ResizeObserver(() => box.current && plot.current?.setSize({ width: box.current.clientWidth, height: p.height ?? 170 }));
    watch.observe(box.current!);
    return () => {
      watch.disconnect();
      plot.current?.destroy();
    };
  }, [document.documentElement.dataset.theme]);
  useEffect(() => plot.current?.setData(data), [p.times.length, p.times[p.times.length - 1]]);
  const last = p.lines.map((l) => `${l.name} ${l.values.length ? p.show(l.values[l.values.length - 1]) : "unknown"}`).join(", ");
  return <div class="chart" role="img" aria-label={`${p.title}: now ${last}`} ref={box} />;
}
