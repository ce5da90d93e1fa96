#!/usr/bin/env bash
# Submits a training to a project, then lists the workloads of that project. The application needs
# the role L1 researcher or L2 researcher there.
# Usage: CONTROL_PLANE=https://acme.run.ai researcher.sh PROJECT NAME IMAGE
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/runai-api.sh"

project=$(runai_pages /api/v1/org-unit/projects projects | jq --arg name "$1" 'select(.name == $name)')
[[ -n $project ]] || { echo "there is no project $1, or the application may not see it" >&2; exit 1; }

training=$(jq --null-input --argjson project "$project" --arg name "$2" --arg image "$3" '{
    name: $name, projectId: $project.id, clusterId: $project.clusterId,
    spec: {image: $image, compute: {gpuDevicesRequest: 1}}}')
runai_api POST /api/v1/workloads/trainings "$training" | jq -r '"submitted \(.name) \(.workloadId)"'

runai_pages /api/v1/workloads workloads | jq -r --arg project "$1" 'select(.projectName == $project) | "\(.name) \(.phase)"'
