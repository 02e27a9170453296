/// The style sheet of a report's page: light or dark as the reader's system is, light in print.
enum ReportStyle {
  static let sheet = """
    :root { color-scheme: light dark; \(light) }
    @media (prefers-color-scheme: dark) { :root { \(dark) } }
    \(layout)
    \(figures)
    \(tables)
    @media (max-width: 36rem) { body { padding: 0.75rem 0.5rem; } figure, section { padding: 0.75rem 0.6rem; } }
    @media print {
    :root { color-scheme: light; \(light) --ground: #ffffff; }
    body { font-size: 10pt; }
    nav, details { display: none; }
    .scroll { overflow: visible; max-height: none; }
    main { display: block; }
    figure, section { break-inside: avoid; margin: 0 0 8mm; }
    figure svg { max-height: 150mm; }
    }
    """

  private static let light =
    PlotTheme.light.declarations
    + " --ground: #f3f4f6; --muted: #575d69; --accent: #005a9c; --edge: #d5d9e0;"
  private static let dark =
    PlotTheme.dark.declarations
    + " --ground: #0d0f13; --muted: #a3abb8; --accent: #7cc0f5; --edge: #2d323c;"

  private static let layout = """
    * { box-sizing: border-box; }
    body { margin: 0 auto; max-width: 84rem; padding: 1.5rem clamp(0.75rem, 3vw, 2rem); background: var(--ground);
    color: var(--text); font: 1rem/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; }
    h1 { margin: 0 0 0.5rem; font-size: clamp(1.5rem, 4vw, 2.25rem); line-height: 1.2; overflow-wrap: anywhere; }
    h2 { margin: 0 0 0.35rem; font-size: 1.15rem; line-height: 1.3; overflow-wrap: anywhere; }
    header p { max-width: 46rem; margin: 0 0 1rem; color: var(--muted); }
    dl { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; margin: 0 0 1rem; }
    dt { color: var(--muted); font-size: 0.8rem; }
    dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
    nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 0 0 1.25rem; padding: 0; list-style: none; }
    a { color: var(--accent); }
    main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 31rem), 1fr)); gap: 1.25rem; }
    """

  private static let figures = """
    figure, section { display: flex; flex-direction: column; min-width: 0; margin: 0; padding: 1rem 1.1rem;
    background: var(--background); border: 1px solid var(--edge); border-radius: 0.75rem; }
    .wide, main > figure:last-child:nth-child(even) { grid-column: 1 / -1; }
    figcaption p { margin: 0 0 0.75rem; color: var(--muted); font-size: 0.9rem; }
    figure svg { display: block; width: 100%; max-width: 46rem; height: auto; margin: auto; }
    details { margin-top: 0.75rem; border-top: 1px solid var(--edge); padding-top: 0.5rem; }
    summary { cursor: pointer; color: var(--accent); font-size: 0.9rem; }
    a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    """

  private static let tables = """
    .scroll { overflow: auto; max-height: 26rem; margin-top: 0.5rem; }
    table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
    section table { font-size: 0.95rem; }
    th, td { padding: 0.25rem 0.75rem 0.25rem 0; text-align: left; border-bottom: 1px solid var(--edge); white-space: nowrap; }
    th { position: sticky; top: 0; vertical-align: bottom; white-space: normal; background: var(--background); color: var(--muted); font-weight: 600; }
    .number { text-align: right; }
    """
}
