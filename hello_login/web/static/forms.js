"use strict";
// All forms work without this file.

const PAUSE = 2000; // milliseconds: a second submit within them is an accidental double click
const addReveal = (field) => {
  const button = document.createElement("button");
  const show = (shown) => {
    field.type = shown ? "text" : "password";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", `${button.textContent}: ${field.labels[0].textContent}`);
  };
  button.type = "button";
  button.className = "reveal";
  button.addEventListener("click", () => show(field.type === "password"));
  // Browsers remember the submitted values of text fields, and suggest them to the next user.
  field.form.addEventListener("submit", () => show(false));
  field.after(button);
  show(false);
};

for (const form of document.forms) {
  let sent = -PAUSE;
  form.addEventListener("submit", (event) => {
    if (event.timeStamp - sent < PAUSE) event.preventDefault();
    else sent = event.timeStamp;
  });
}
document.querySelectorAll("input[type=password]").forEach(addReveal);
// Without this, going back to a refused form, or reloading it, would send it again.
history.replaceState(null, "");
