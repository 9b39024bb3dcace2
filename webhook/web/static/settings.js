// Conditions come and go without a reload. Without this script the same buttons ask the server for it.
"use strict";

const form = document.getElementById("config");
const rows = document.getElementById("rows");
let next = Number(form.dataset.next);

function showWhetherEmpty() {
  document.querySelector(".no-rows").hidden = rows.childElementCount > 0;
}

/** The server's own row, with its number put in: nothing is built from text. */
function addRow(event) {
  event.preventDefault();
  const row = document.getElementById("row").content.firstElementChild.cloneNode(true);
  for (const element of [row, ...row.querySelectorAll("*")]) {
    for (const attribute of element.attributes) attribute.value = attribute.value.replaceAll("__N__", next);
  }
  next += 1;
  rows.append(row);
  showWhetherEmpty();
  row.querySelector("input").focus();
}

function removeRow(event) {
  const button = event.target.closest("[data-remove]");
  if (!button) return;
  event.preventDefault();
  const row = button.closest("[data-row]");
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  showWhetherEmpty();
  (neighbour?.querySelector("input") ?? document.getElementById("add-row")).focus();
}

document.getElementById("add-row").addEventListener("click", addRow);
rows.addEventListener("click", removeRow);
