// Shows the API's document. Requests that are tried out go with the session of whoever is logged in.
"use strict";

const target = document.getElementById("swagger-ui");
const token = document.querySelector("meta[name=csrf-token]").content;

SwaggerUIBundle({
  url: target.dataset.document,
  domNode: target,
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
  requestInterceptor(request) {
    if (new URL(request.url, location.href).origin === location.origin && !request.headers.Authorization) {
      request.headers["X-CSRFToken"] = token;
    }
    return request;
  },
});
