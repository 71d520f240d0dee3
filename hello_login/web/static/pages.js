"use strict";
// Every page works without this file.

const SUBMIT_PAUSE = 2000; // ms: a second submit within them is an accidental double click
const TYPING_PAUSE = 500; // ms

// The server writes times in UTC.  Each element's title keeps the exact time.
for (const time of document.querySelectorAll("time[title$=UTC]")) {
  time.textContent = new Date(time.dateTime).toLocaleString(undefined, {
    dateStyle: "clock" in time.dataset ? undefined : "long",
    timeStyle: "date" in time.dataset ? undefined : "short",
  });
  time.lang = navigator.language; // The rest of the page is in English.
}

const addReveal = (field) => {
  const button = document.createElement("button");
  const show = (shown) => {
    field.type = shown ? "text" : "password";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", `${button.textContent}: ${field.labels[0]?.textContent ?? "password"}`);
  };
  button.type = "button";
  button.className = "reveal";
  button.addEventListener("click", () => show(field.type === "password"));
  // Browsers remember the submitted values of text fields, and suggest them to the next user.
  field.form.addEventListener("submit", () => show(false));
  field.after(button);
  show(false);
};

// Shows the server's judgement while somebody types a new password.
const addCheck = (field) => {
  const { form } = field;
  const status = document.createElement("p");
  let timer;
  const check = async () => {
    const { value } = field;
    const body = new URLSearchParams({ csrf_token: form.csrf_token.value, password: value });
    for (const { value } of form.querySelectorAll("[name=name], [type=email]")) {
      body.append("personal", value);
    }
    const response = await fetch(field.dataset.check, { method: "POST", body }).catch(() => {});
    const { problem } = response?.ok ? await response.json() : { problem: "" };
    if (field.value === value) status.textContent = problem ?? "This password is good.";
  };
  status.className = "hint";
  status.setAttribute("role", "status");
  field.closest(".row").after(status);
  field.addEventListener("input", () => {
    clearTimeout(timer);
    if (field.value) timer = setTimeout(check, TYPING_PAUSE);
    else status.textContent = "";
  });
  // Password managers read this attribute, but the HTML standard does not have it.
  field.setAttribute("passwordrules", `minlength: ${field.minLength}; maxlength: 1024`);
  // Somebody who can see the password need not repeat it.
  form.confirm.closest(".row").hidden = true;
  form.addEventListener("submit", () => { form.confirm.value = field.value; });
};

for (const form of document.forms) {
  let sent = -SUBMIT_PAUSE;
  form.addEventListener("submit", (event) => {
    if (event.timeStamp - sent < SUBMIT_PAUSE) event.preventDefault();
    else sent = event.timeStamp;
  });
}
document.querySelectorAll("input[type=password]").forEach(addReveal);
document.querySelectorAll("[data-check]").forEach(addCheck);
// Without this, going back to a refused form, or reloading it, would send it again.
history.replaceState(null, "");
// Going back after a logout must not show the page that the browser has kept.
addEventListener("pageshow", ({ persisted }) => {
  if (persisted && document.querySelector("nav form")) location.reload();
});
