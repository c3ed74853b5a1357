// How numbers and times are shown, everywhere alike.

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function bytes(n: number): string {
  let u = 0;
  while (Math.abs(n) >= 1000 && u < units.length - 1) {
    n /= 1024;
    u++;
  }
  return (u === 0 ? String(n) : n < 10 ? n.toFixed(2) : n < 100 ? n.toFixed(1) : n.toFixed(0)) + " " + units[u];
}

export const rate = (n: number) => bytes(Math.round(n)) + "/s";

export const count = (n: number) => n.toLocaleString("en-US");

export const percent = (part: number, whole: number) => (whole > 0 ? Math.round((part / whole) * 1000) / 10 : 0) + " %";

export const plural = (n: number, one: string, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

/** duration shows seconds as people say them: "4 min 10 s". */
export function duration(s: number): string {
  if (!isFinite(s) || s < 0) return "–";
  if (s < 1) return Math.round(s * 1000) + " ms";
  if (s < 60) return Math.round(s) + " s";
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.round((s % 86400) / 3600)} h`;
}

const unset = (t?: string) => !t || t.startsWith("0001-");

export function ago(t?: string): string {
  if (unset(t)) return "–";
  const s = (Date.now() - Date.parse(t!)) / 1000;
  return s < 1 ? "now" : duration(s) + " ago";
}

export const when = (t?: string) => (unset(t) ? "–" : new Date(t!).toLocaleString());

/** A size as people type it: "10 GiB", "1.5TB", "1000". NaN if it is none. */
export function parseBytes(text: string): number {
  const m = /^\s*([\d.]+)\s*([kmgtpe]?)(i?)b?\s*$/i.exec(text);
  if (!m) return NaN;
  const power = " kmgtpe".indexOf(m[2].toLowerCase() || " ");
  return Math.round(parseFloat(m[1]) * Math.pow(m[3] || m[2] === "" ? 1024 : 1000, power));
}
