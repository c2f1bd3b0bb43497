"use strict";
(() => {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;

  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim();
    return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
  };
  const sort = (head, column) => {
    const numeric = head.dataset.kind === "number";
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
    const rows = [...body.rows].map((row) => [key(row, column, numeric), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : compare(a, b));
    });
    body.append(...rows.map(([, row]) => row));
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head, column));
    head.replaceChildren(button);
  });

  const input = document.getElementById("filter");
  const found = document.getElementById("found");
  const items = [
    ...[...body.rows].map((row) => [row, row.textContent.toLowerCase()]),
    ...[...document.querySelectorAll(".card")].map((card) => [card, card.dataset.find.toLowerCase()]),
  ];
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    items.forEach(([item, text]) => { item.hidden = !words.every((word) => text.includes(word)); });
    const shown = [...body.rows].filter((row) => !row.hidden).length;
    found.textContent = words.length ? `${shown} of ${body.rows.length} cases` : "";
  };
  input.addEventListener("input", filter);
  document.querySelector(".filter").hidden = false;
  filter();
})();
