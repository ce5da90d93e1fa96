"""Submits a training to a project and waits until it ends, for days if necessary.

The application needs the role L1 researcher or L2 researcher there.

Usage: CONTROL_PLANE=https://acme.run.ai python3 researcher.py PROJECT NAME IMAGE
"""

import os
import sys
import time

import runai_api

project_name, name, image = sys.argv[1:]
projects = [project for project in runai_api.pages("/api/v1/org-unit/projects", "projects") if project["name"] == project_name]
if not projects:
    raise SystemExit(f"there is no project {project_name}, or the application may not see it")
training = {
    "name": name,
    "projectId": projects[0]["id"],
    "clusterId": projects[0]["clusterId"],
    "spec": {"image": image, "compute": {"gpuDevicesRequest": 1}},
}
submitted = runai_api.call("POST", "/api/v1/workloads/trainings", json=training)
print(f"submitted {submitted['name']} {submitted['workloadId']}")

# Tokens end in the meantime. RunaiAuth replaces them, so this loop needs no code for that.
phase = None
while phase not in ("Completed", "Failed", "Stopped"):
    time.sleep(float(os.environ.get("POLL_SECONDS", "30")))
    phase = runai_api.call("GET", f"/api/v1/workloads/trainings/{submitted['workloadId']}").get("actualPhase")
print(phase)
sys.exit(phase != "Completed")
