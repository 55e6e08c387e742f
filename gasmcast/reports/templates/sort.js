"use strict";
// A click on a column's head sorts by it: numbers downwards first, words upwards first, empty cells always last.
for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.tHead.querySelectorAll("button")) {
    const head = button.parentElement;
    const numeric = head.classList.contains("number");
    const value = (row) => {
      const text = row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
      return numeric && text !== "" ? Number(text) : text;
    };
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const direction = (before === null ? numeric : before === "ascending") ? "descending" : "ascending";
      for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (numeric ? x - y : x.localeCompare(y));
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    });
  }
}
