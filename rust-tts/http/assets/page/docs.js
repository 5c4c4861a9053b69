"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // The default sends the description to a service of Swagger's.
  validatorUrl: null,
});
