// The icons: line drawings on a grid of 16, in the colour of the text beside them.

const paths: Record<string, string> = {
  overview: "M2 9l6-6 6 6M4 8v5.5h8V8",
  cluster: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01",
  repair: "M13.5 4.5l-2 2-2-2 2-2a3.5 3.5 0 00-4.6 4.4L2.5 11.3a1.6 1.6 0 002.2 2.2l4.4-4.4a3.5 3.5 0 004.4-4.6z",
  buckets: "M2.5 4.5l1.2 9h8.6l1.2-9M2.5 4.5c0-1.2 2.5-2 5.5-2s5.5.8 5.5 2-2.5 2-5.5 2-5.5-.8-5.5-2z",
  access: "M8 8a2.7 2.7 0 100-5.4A2.7 2.7 0 008 8zM2.8 13.8a5.2 5.2 0 0110.4 0",
  jobs: "M3 4h7M3 8h10M3 12h5",
  audit: "M4 2.5h6l2.5 2.5v8.5H4zM6.5 7.5h4M6.5 10.5h4",
  metrics: "M2.5 13.5h11M4 11V8M7 11V5M10 11V7M13 11V3",
  models: "M8 2l5.5 3v6L8 14l-5.5-3V5zM2.5 5L8 8l5.5-3M8 8v6",
  menu: "M2.5 4h11M2.5 8h11M2.5 12h11",
  theme: "M8 2.5a5.5 5.5 0 100 11zM8 2.5a5.5 5.5 0 010 11",
  out: "M6 3H3v10h3M7 8h6.5M11 5.5L13.5 8 11 10.5",
  ok: "M3 8.5l3.2 3.2L13 5",
  full: "M3 3h10v10H3zM5 6h6M5 8.5h6M5 11h6",
  "read-only": "M4.5 7.5h7v6h-7zM5.8 7.5V5.3a2.2 2.2 0 014.4 0v2.2",
  hung: "M4 2.5h8M4 13.5h8M5 2.5c0 3 6 4 6 5.5s-6 2.5-6 5.5M11 2.5c0 3-6 4-6 5.5s6 2.5 6 5.5",
  failing: "M8 2.5l6 11H2zM8 7v3M8 12h.01",
  missing: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  draining: "M8 2.5v8M4.5 7.5L8 11l3.5-3.5M3 13.5h10",
  healing: "M3 8a5 5 0 018.5-3.5L13 6M13 3v3h-3M13 8a5 5 0 01-8.5 3.5L3 10M3 13v-3h3",
  "at-risk": "M8 2.5l6 11H2zM8 7v3M8 12h.01",
  lost: "M8 2.5a5.5 5.5 0 100 11 5.5 5.5 0 000-11zM5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4",
  file: "M4 2.5h5l3 3v8H4zM9 2.5v3h3",
  folder: "M2 4h4l1.5 1.5H14v7H2z",
  up: "M8 13V3.5M4.5 7L8 3.5 11.5 7",
  x: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5h7v8h-7zM3.5 10.5v-8h7",
};

export const Icon = ({ name }: { name: string }) => (
  <svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
    <path d={paths[name] ?? paths.file} />
  </svg>
);

export const Logo = () => (
  <svg viewBox="0 0 32 32" aria-hidden="true" fill="var(--accent)">
    <ellipse cx="16" cy="26" rx="13" ry="5" /><ellipse cx="16" cy="16.5" rx="9" ry="4.2" /><ellipse cx="16" cy="8.5" rx="5.5" ry="3.4" />
  </svg>
);
