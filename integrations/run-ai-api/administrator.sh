#!/usr/bin/env bash
# Lists clusters, departments, projects and applications. The application needs a role that may see
# them, such as System administrator.
# Usage: CONTROL_PLANE=https://acme.run.ai administrator.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/runai-api.sh"

runai_api GET /api/v1/clusters | jq -r '.[] | "cluster \(.name) \(.uuid)"'
runai_pages /api/v1/org-unit/departments departments | jq -r '"department \(.name) \(.id)"'
runai_pages /api/v1/org-unit/projects projects | jq -r '"project \(.name) \(.id)"'
# For releases that call them applications, set APPLICATIONS=/api/v1/apps.
runai_api GET "${APPLICATIONS:-/api/v1/service-accounts}" | jq -r '.[] | "application \(.name) \(.clientId)"'
