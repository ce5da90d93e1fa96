"""Lists clusters, departments, projects and applications.

The application needs a role that may see them, such as System administrator.

Usage: CONTROL_PLANE=https://acme.run.ai python3 administrator.py
"""

import os

import runai_api

for cluster in runai_api.call("GET", "/api/v1/clusters"):
    print(f"cluster {cluster['name']} {cluster['uuid']}")
for department in runai_api.pages("/api/v1/org-unit/departments", "departments"):
    print(f"department {department['name']} {department['id']}")
for project in runai_api.pages("/api/v1/org-unit/projects", "projects"):
    print(f"project {project['name']} {project['id']}")
# For releases that call them applications, set APPLICATIONS=/api/v1/apps.
for application in runai_api.call("GET", os.environ.get("APPLICATIONS", "/api/v1/service-accounts")):
    print(f"application {application['name']} {application['clientId']}")
