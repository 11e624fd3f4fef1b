// On a desk diagrams fit the page; on a telephone they keep their size and scroll.
const own = { useMaxWidth: window.innerWidth > 700 };
mermaid.initialize({ flowchart: own, sequence: own, state: own, gantt: { ...own, useWidth: 720 } });
