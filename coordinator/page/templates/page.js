// Takes the parts of the page as they come. The browser connects again by itself after a lost connection;
// after an answer that is an error it does not, so that this does.
"use strict";
const contact = document.getElementById("contact");
let ended = false;

function connect() {
  const source = new EventSource("events");
  source.onopen = () => {
    ended = false;
    contact.className = "live";
    contact.textContent = "live";
  };
  source.onerror = () => {
    if (ended) {
      // It may be started again.
      source.close();
      setTimeout(connect, 15000);
      return;
    }
    contact.className = "lost";
    contact.textContent = "no contact with the coordinator; trying again";
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(connect, 3000);
    }
  };
  for (const part of ["fleet", "results", "events"]) {
    source.addEventListener(part, (event) => {
      document.getElementById(part).innerHTML = event.data;
    });
  }
  source.addEventListener("end", (event) => {
    ended = true;
    contact.className = "";
    contact.textContent = event.data;
    source.close();
    setTimeout(connect, 15000);
  });
}

connect();
